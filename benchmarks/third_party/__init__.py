"""Other libraries' learners in full: the programs behind the scores of docs/third-party.md."""
