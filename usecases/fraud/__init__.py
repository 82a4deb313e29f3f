"""Real-time card-fraud detection."""

from usecases.fraud.declaration import usecase

__all__ = ["usecase"]
