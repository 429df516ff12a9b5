"""What can be said of circuits and their models once they are there: paths, agreement, binarisation, kurtosis."""
