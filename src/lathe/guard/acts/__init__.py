"""What a command would do, held against rules and reports of others before it runs."""
