"""Cards: what runs are evidence of, the safeguards that this calls for, and the page that says so."""
