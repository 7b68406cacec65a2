"""The hub's database: tables, the one writer, and every statement."""
