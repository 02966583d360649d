"""Training: schedules, one loop for LoRA cohorts and full fine-tuning, checkpoints that survive a kill."""
