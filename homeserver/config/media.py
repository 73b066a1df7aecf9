"""Uploaded and fetched files, previews of links."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta

from homeserver.config.section import Section, about

Size = Annotated[int, Meta(ge=0)]


class Media(Section, frozen=True):
    store: Annotated[
        str,
        about(
            "Where the bytes are: `local` (data_dir/media), or the URL of an object store:"
            " s3://bucket/folder, gs://bucket/folder, az://container/folder."
        ),
    ] = "local"
    store_options: Annotated[
        dict[str, str],
        about(
            "For an object store: region, endpoint, access_key_id, secret_access_key, ..."
            " (what isn't set comes from the cloud's usual environment variables)."
        ),
    ] = {}  # noqa: RUF012 - msgspec copies it
    max_upload_size: Annotated[Size, about("Largest upload, in bytes.")] = 104_857_600
    max_remote_size: Annotated[
        Size, about("Largest file that is fetched from another server, in bytes.")
    ] = 104_857_600
    max_image_pixels: Annotated[
        Annotated[int, Meta(ge=1_000_000)],
        about("Pictures with more pixels get no thumbnails (memory: up to 5 bytes a pixel)."),
    ] = 40_000_000
    unauthenticated_paths: Annotated[
        Literal["closed", "frozen", "open"],
        about(
            "The old download paths, open to everybody without login. frozen: only what came"
            " while they were open; open: everything, also what comes from now on."
        ),
    ] = "closed"
    public: Annotated[
        tuple[str, ...],
        about("Always open to everybody, such as the icons of login providers: [mxc://...]."),
    ] = ()
    user_quota: Annotated[
        Size | None, about("How much one user may have stored, in bytes; null: no limit.")
    ] = None
    pending_uploads: Annotated[
        Annotated[int, Meta(ge=1)],
        about("How many uploads of one user may be announced and not yet made."),
    ] = 20
    pending_upload_lifetime: Annotated[
        Annotated[int, Meta(ge=1)], about("Seconds until an announced upload must be made.")
    ] = 86_400
    fetch_seconds: Annotated[
        Annotated[int, Meta(ge=1)], about("So long may fetching a remote file take.")
    ] = 300
    remote_unused_days: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        about(
            "Copies of remote files go when nobody asked for them for so many days;"
            " they are fetched again when somebody does. null: never."
        ),
    ] = 90
    remote_cache_size: Annotated[
        Size | None,
        about("Copies of remote files may be so large together, in bytes; null: no limit."),
    ] = None
    local_unused_days: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        about("Uploads go for ever when nobody asked for them for so many days; null: never."),
    ] = None
    local_lifetime_days: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        about("Uploads go for ever after so many days; null: never."),
    ] = None
    delete_redacted: Annotated[
        bool,
        about("Delete an upload when its sender's last (unencrypted) event with it is redacted."),
    ] = True
    memory_cache: Annotated[
        Size, about("Small files and thumbnails held in memory, in bytes together.")
    ] = 16_777_216

    def __post_init__(self) -> None:
        if not re.match(r"local$|(s3a?|gs|az|azure|adl|abfss?)://.", self.store):
            raise ValueError("`store` must be `local` or begin with s3://, gs:// or az://")
        for uri in self.public:
            if not uri.startswith("mxc://"):
                raise ValueError("`public` holds content URIs: mxc://server/id")


class Previews(Section, frozen=True):
    enabled: Annotated[bool, about("Fetch pages that users link to, for a preview.")] = True
    allowed_hosts: Annotated[
        tuple[str, ...],
        about('Only these hosts: [example.org, "*.wikipedia.org"]; empty: all but denied_hosts.'),
    ] = ()
    denied_hosts: Annotated[tuple[str, ...], about('Never these hosts: ["*.example.net"].')] = ()
    max_page_size: Annotated[
        Annotated[int, Meta(ge=1024)], about("So much of a page is read, in bytes.")
    ] = 2_097_152
    max_image_size: Annotated[
        Size, about("Larger pictures are left out of a preview, in bytes.")
    ] = 10_485_760
    seconds: Annotated[
        Annotated[float, Meta(gt=0)], about("So long may fetching one page take.")
    ] = 15
    lifetime: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)], about("Seconds for which a preview is kept.")
    ] = 86_400
    accept_language: Annotated[str, about("In which language pages are asked for.")] = "en"
    user_agent: Annotated[str, about("As what pages are asked for.")] = (
        "Mozilla/5.0 (compatible; homeserver; link previews; bot)"
    )
