"""PushT as a trained model has learnt it, as Gymnasium environments."""
