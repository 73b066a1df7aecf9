"""The OAuth 2.0 API and the web pages on which people sign in. client-server-api#oauth-20-api"""
