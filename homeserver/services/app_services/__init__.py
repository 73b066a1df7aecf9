"""Application services: who they are, what they may do, what they are sent.

application-service-api
"""
