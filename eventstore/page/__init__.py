"""The page over a store: HTML from the server, which reads and prints without scripts."""
