"""Pictures of the documentation that are drawn from episodes, each by a command."""
