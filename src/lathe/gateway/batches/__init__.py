"""Batches: many requests in a file, answered within a day when nobody else waits.

A batch is made by one API (OpenAI's `/v1/batches`, Anthropic's `/v1/messages/batches`) and worked on by every replica:
one of them reads the file into lines, all of them claim lines in the database and relay them, and one writes the
answers into files again.
"""
