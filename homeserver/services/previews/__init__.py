"""Previews of links: what a page says about itself, as OpenGraph data.

    hosts     which addresses may be asked at all
    page      HTML and oEmbed in, title, description and picture out: pure
    previews  fetch, put together, remember

client-server-api#get_matrixclientv1mediapreview_url
"""
