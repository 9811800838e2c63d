"""From any source to canonical fields, and back to stores that are whole or say that they are not."""
