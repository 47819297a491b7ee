"""What runs under the project's own interpreter: the standard library, the project, and its pytest. Nothing else."""
