"""How right a model is: data sets, the confusion matrix and the scores made from it."""
