"""What every room of HiTree shares: drawings, instruction trees, errors, the wire."""
