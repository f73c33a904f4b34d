"""What the options of all stages share: they are immutable, completed by a profile, and part of the fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from jobs import code
from jobs.profiles import PROFILES, Profile

__all__ = ["Options"]


class Options(BaseModel):
    """Options of one stage. They are immutable, and an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    STAGE: ClassVar[str] = ""
    """The stage's name."""
    STAGE_VERSION: ClassVar[int] = 1
    """Incremented when the stage gives another result for the same input, so that no stale result is reused."""
    USES_NERFSTUDIO: ClassVar[bool] = False
    """Whether the result also depends on a nerfstudio checkout in the project's root."""
    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Fields that were added after results had been registered.

    The fingerprint omits such a field while it has its default value, so that older results are found again. With the
    default, the stage must therefore behave as it did before it had the field.
    """

    @classmethod
    def of(cls: type[OptionsT], job: BaseModel) -> OptionsT:
        """Return the stage's options from a job's command line, which also has the folders that the job works in."""
        return cls(**{name: getattr(job, name) for name in cls.model_fields})

    def with_profile(self: OptionsT, profile: Profile) -> OptionsT:
        """Return these options with the profile's values for fields that are None."""
        defaults = PROFILES[profile].get(self.STAGE, {})
        return self.model_copy(update={k: v for k, v in defaults.items() if getattr(self, k) is None})

    def fingerprint(self, **inputs: str) -> str:
        """Return the SHA-256, in hex, of everything that decides the stage's output.

        Args:
            inputs: a version or checksum of each input, by the input's name.
        """
        as_before = {name for name in self.ADDED if getattr(self, name) == type(self).model_fields[name].get_default()}
        decides = {
            "stage": self.STAGE,
            "stage_version": self.STAGE_VERSION,
            "options": self.model_dump(mode="json", exclude=as_before),
            "inputs": inputs,
        }
        if self.USES_NERFSTUDIO and (own := code.own_nerfstudio_fingerprint()):
            decides["nerfstudio"] = own
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


OptionsT = TypeVar("OptionsT", bound=Options)
