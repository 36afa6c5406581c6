"""Class folders of small images, unpacked or in a zip."""

import zipfile

from PIL import Image


def write_images(root, files: list[str]) -> None:
    """Writes a PNG of 2x2 pixels for each path; the pixels are the path's number."""
    for number, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2), (number, 0, 0)).save(path, format="PNG")


def write_zip(path, folder) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return str(path)


def class_files(counts: dict[str, int], root: str = "") -> list[str]:
    return [f"{root}{name}/{i:03d}.png" for name, n in counts.items() for i in range(n)]


def contents(source) -> dict[str, str]:
    """Class name of each example by file name."""
    return {source.name(i): source.class_names[source[i]["label"]] for i in range(len(source))}
