"""What techniques have in common that keep a share of a site's channels."""

from abc import abstractmethod
from collections.abc import Sequence

from typing_extensions import override

from ...errors import EspalierError
from ..choice import Choice
from ..site import Site
from ..technique import ChannelTechnique
from .ranges import at_least_one, shares
from .ranks import aligned, distinct

__all__ = ["KeepingTechnique"]


class KeepingTechnique(ChannelTechnique):
    """Offers shares of the channels to keep; which channels these are, a criterion says.

    Args:
        title: Name of the technique; those of other criteria than the first end in the criterion's.
        kept: Shares of channels to keep, each in (0, 1).
        channel_multiple: Channels are rounded down to multiples of this.
        criterion: One of `criteria`.
        criteria: What there is; the first is the technique's own.

    Raises:
        EspalierError: There is no such criterion, or a share or the multiple is out of range.
    """

    def __init__(
        self, title: str, kept: Sequence[float], channel_multiple: int, criterion: str, criteria: Sequence[str]
    ) -> None:
        if criterion not in criteria:
            raise EspalierError(f"{title}.criterion must be one of {', '.join(criteria)}, got {criterion!r}")
        self._kept = shares(f"{title}.kept", *kept)
        (self._channel_multiple,) = at_least_one(f"{title}.channel_multiple", channel_multiple)
        self.criterion = criterion
        self.name = title if criterion == criteria[0] else f"{title}_{criterion}"

    @abstractmethod
    def fits(self, site: Site) -> bool:
        """Whether channels of the site can go."""

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if not self.fits(site):
            return ()

        def saves(width: int) -> bool:
            return width < site.out_channels

        offered = (Choice.of(self.name, kept=value) for value in self._kept)
        return distinct(offered, lambda choice: self.kept_channels(site, choice), saves)

    @override
    def kept_channels(self, site: Site, choice: Choice) -> int:
        return aligned(site.out_channels * float(choice["kept"]), self._channel_multiple)
