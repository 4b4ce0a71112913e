"""How right a model is: the confusion matrix and the scores made from it."""
