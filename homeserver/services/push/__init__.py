"""Push: who wants to be told of notifications elsewhere, and the telling. push-gateway-api"""
