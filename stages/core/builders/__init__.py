"""What is known without Keras: builders and their arguments, the files of weights, the pixels they take."""
