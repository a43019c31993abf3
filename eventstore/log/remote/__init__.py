"""What logs have in common that a server keeps, which any number of machines share."""
