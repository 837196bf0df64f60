"""What learners share: episodes, returns, replay, augmentation, schedules; it knows no agent."""
