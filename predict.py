"""Translate images: python predict.py ckpt=best.ckpt input=photo.jpg output=painting.png."""

from __future__ import annotations

from monet_cyclegan.cli import exit_with_one_line


@exit_with_one_line()
def main() -> None:
    """Run the command line."""
    import sys

    from monet_cyclegan.inference.predict import predict

    predict(sys.argv[1:])


if __name__ == "__main__":
    main()
