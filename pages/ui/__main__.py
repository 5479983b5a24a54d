"""`python -m pages.ui REQUEST`: figures and tables of the pages as files, without a browser; see `pages.ui.headless`."""

import logging
import sys


def main() -> int:
    logging.disable(logging.WARNING)  # Streamlit misses its server already while it is imported
    from pages.ui import headless

    return headless.main(sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
