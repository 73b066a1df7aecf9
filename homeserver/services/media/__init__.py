"""The content repository: what comes in, is served, and goes again.

    contents    an incoming file gets its hash and its one place in the store
    uploads     of our users, at once or announced before; quota
    fetching    from other servers: once for many waiters, readable while it grows
    downloads   a content URI becomes something that can be served; small files held in memory
    thumbnails  made on demand by `images`, one maker each, kept
    retention   what is too old, too much, unused or forbidden goes
    links       which events carry which media; a redacted event takes its own along

client-server-api#content-repository
"""
