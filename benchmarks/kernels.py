"""Kernels against sgemm and peers: the same as `hfnumba bench kernels`, for a checkout."""

from hfnumba.cli.bench import kernels

if __name__ == "__main__":
    kernels()
