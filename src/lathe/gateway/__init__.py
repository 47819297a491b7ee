"""The gateway: one endpoint for models, access according to trust, a receipt for everything."""
