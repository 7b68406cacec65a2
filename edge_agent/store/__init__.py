"""The one SQLite file in the offline directory: the journal, the inbox, and how they outlive what happens to a disk."""
