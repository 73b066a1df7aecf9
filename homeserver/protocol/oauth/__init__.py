"""OAuth 2.0 as Matrix uses it: what clients register and ask for. client-server-api#oauth-20-api"""
