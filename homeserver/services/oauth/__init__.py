"""The OAuth 2.0 authorization server: clients, codes, and who is signed in at which browser.

client-server-api#oauth-20-api
"""
