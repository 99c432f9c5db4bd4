"""What is measured on held-out drawings, one module a table."""
