"""Models: find one (``locate``, no torch), load it (``base``), put adapters on it (``lora``), write them as PEFT does."""
