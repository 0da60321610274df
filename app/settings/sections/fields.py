"""What the sections of the settings have in common: types of fields, and their base."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from app.settings import files, urls, values
from app.settings.values import Form

YEAR_S = 31_536_000
Whole = Annotated[int, BeforeValidator(values.whole_number)]
AnyPath = Annotated[Path, BeforeValidator(files.not_empty)]
TrustedFile = Annotated[
    AnyPath,
    AfterValidator(files.trusted_file),
]
OwnFile = Annotated[AnyPath, AfterValidator(files.full_path)]
OWN_FILE_FORM = Form("the path of a file")
FILE_FORM = Form("the path of a file of up to 1 MiB that only its owner can change")
Unique = AfterValidator(values.no_repeats)
NotEmpty = AfterValidator(values.at_least_one)
BaseUrl = Annotated[str, AfterValidator(urls.base_url)]
HttpUrl = Annotated[str, AfterValidator(urls.http_url)]
URL_FORM = Form('an https:// URL without user, query and fragment: "https://go.dev/dl/"')


class Section(BaseModel):
    """A frozen table of settings; unknown names are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )
