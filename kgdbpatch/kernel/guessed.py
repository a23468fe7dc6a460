"""Name the functions of a kernel whose file names none."""

from __future__ import annotations

from kgdbpatch.image import Image

__all__ = ["with_functions"]


def with_functions(image: Image) -> Image:
    """Return the image with what seems to be functions in the code sections that name none."""
    named = image.functions.sections
    bare = [section for section in image.code_sections() if section.name not in named]
    if not bare:
        return image
    from kgdbpatch.analysis.function_starts import guess_functions

    code = [(section.address, image.words(section)) for section in bare]
    data = [(section.address, image.words(section)) for section in image.sections if not section.executable]
    return image.with_guessed(guess_functions(code, data, image.model))
