"""Files that other programs wrote, read strictly: numbers as text, label files, recordings, Kaldi's archives."""
