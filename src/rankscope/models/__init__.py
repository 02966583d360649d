"""Models: find one (``locate``, no torch), load it (``base``), adapt it (``lora``), write adapters as PEFT does."""
