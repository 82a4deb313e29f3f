"""The five processes of the platform. They meet only through topics, proto, the feature store and the model store."""
