"""The web console: pages made on the server, over the same operations as the JSON API."""
