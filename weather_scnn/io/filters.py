"""Compression that is not installed: which filter or codec a file asks for, and where to get it."""

import re

from weather_scnn.errors import UserError

# Filters registered with The HDF Group, by number.
_HDF5 = {
    4: "szip", 307: "bzip2", 32000: "lzf", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp",
    32015: "zstd", 32016: "fpzip", 32017: "sz", 32018: "fcidecomp", 32019: "jpeg", 32021: "h5vbz", 32024: "sz3", 32026: "blosc2",
}  # fmt: skip
_MOST_FILES = 100
_PLUGINS = (
    "pip install hdf5plugin, then export HDF5_PLUGIN_PATH=$(python -c 'import hdf5plugin as h; print(h.PLUGINS_PATH)')"
)
_PACKAGES = {
    "pcodec": "'numcodecs[pcodec]'", "zfpy": "'numcodecs[zfpy]'", "msgpack2": "'numcodecs[msgpack]'", "crc32c": "'numcodecs[crc32c]'",
    "blosc2": "blosc2", "bitinformation": "xbitinfo", "gribscan": "gribscan", "gribscan.rawgrib": "gribscan", "grib": "kerchunk",
}  # fmt: skip


def lacking_filter(error: BaseException, where: str) -> UserError | None:
    """What to tell of an error that comes from compression which this machine cannot undo; None for other errors."""
    text = " ".join(str(error).split())
    if "Filter error" in text or "required filter" in text or "filter is not registered" in text:
        name = _hdf5_filter(where)
        return UserError(
            f"is compressed by {name}, which is not installed here",
            where=where,
            remedy=f"{_PLUGINS}; or write the file again with `nccopy -d 1` where it can be read",
        )
    if type(error).__name__ == "FunctionalityNotEnabledError" or "Functionality not enabled" in text:
        return UserError(
            f"is packed by {_grib_packing(where)}, which this ecCodes was built without",
            where=where,
            remedy="pip install --upgrade eccodes eccodeslib, or repack it with `grib_set -r -w packingType!=grid_simple "
            "-s packingType=grid_simple` where it can be read",
        )
    if type(error).__name__ == "UnknownCodecError" or "codec not available" in text or "Unknown codec" in text:
        quoted = re.findall(r"'+([\w.\-]+)'+", text)
        codec = quoted[-1] if quoted else "a codec"
        short = codec.removeprefix("numcodecs.")
        package = _PACKAGES.get(short) or (
            "imagecodecs" if re.match(r"imagecodecs|jpe?g|webp|lerc|avif", short) else ""
        )
        install = f"pip install {package}" if package else "install the package that holds that codec"
        return UserError(
            f"is compressed by the codec {codec}, which is not installed here",
            where=where,
            remedy=f"{install}, or write the store again with zstd where it can be read",
        )
    return None


def _hdf5_filter(path: str) -> str:
    """Name of the first filter of a file, or of one of many, that is not there."""
    from weather_scnn.io.sources import find_source  # which names codecs as well

    try:
        import h5py

        files = find_source(path).paths[:_MOST_FILES]
    except (ImportError, UserError):
        return "an HDF5 filter"
    missing: list[str] = []

    def look(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            properties = item.id.get_create_plist()
            for position in range(properties.get_nfilters()):
                number, _flags, _values, name = properties.get_filter(position)
                if not h5py.h5z.filter_avail(number) or number > 255:
                    known = _HDF5.get(number) or bytes(name).decode("ascii", "replace").strip() or "unknown"
                    missing.append(f"the HDF5 filter {known} ({number})")

    for each in files:
        try:
            with h5py.File(each, "r") as file:
                file.visititems(look)
        except OSError:
            continue
        if missing:
            break
    return missing[0] if missing else "an HDF5 filter"


def _grib_packing(path: str) -> str:
    """Packing of the first message."""
    import eccodes

    try:
        with open(path, "rb") as file:
            message = eccodes.codes_grib_new_from_file(file, headers_only=True)
            try:
                return str(eccodes.codes_get(message, "packingType"))
            finally:
                eccodes.codes_release(message)
    except (OSError, TypeError, eccodes.CodesInternalError):
        return "a packing"
