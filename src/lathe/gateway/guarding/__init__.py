"""The guard in the gateway: what is new in a conversation is judged before it is sent, and answers as they come."""
