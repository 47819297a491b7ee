"""Where it runs: from a policy to a confined process."""
