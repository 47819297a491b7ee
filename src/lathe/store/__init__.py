"""What is kept: journals of threads, and what a workspace looked like before."""
