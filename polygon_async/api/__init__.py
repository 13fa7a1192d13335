"""The Python interface: arguments as Python has them in; frames and summaries out."""
