"""Images of the platform's parts: how they are made, what is checked in them, how they tell that they are well."""
