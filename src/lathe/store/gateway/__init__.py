"""What the gateway keeps: SQLite with nothing to install, PostgreSQL for several replicas."""
