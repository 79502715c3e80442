"""What a simulated device measures: a base that differs by device, a daily cycle, slow drift, noise; within physical bounds.

A signal is a pure function of device, time and random numbers. Profiles of well-known metrics stand here; any other
metric gets one from its declared bounds, so that a newly declared metric needs no change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot_platform.contracts.wire import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DAY_SECONDS = 86_400
# Noise ends at this many sigma, so that nothing but an injected spike stands out of the last 100 readings by 3 of theirs.
NOISE_LIMIT = 2.0
SCORED_READINGS = 100
SPIKE_SIGMAS = (8.0, 10.0)


@dataclass(frozen=True)
class SignalProfile:
    """``base``, its ``spread`` between devices, ``noise`` (sigma), amplitude of the daily ``cycle``; the metric's unit."""

    base: float
    spread: float
    noise: float
    cycle: float
    low: float | None
    high: float | None
    decimals: int = 2


# base, spread between devices, noise, daily cycle, decimals
_KNOWN: dict[str, tuple[float, float, float, float, int]] = {
    "temperature": (21.0, 3.0, 0.4, 1.2, 2),
    "humidity": (47.0, 6.0, 1.0, 3.0, 2),
    "energy": (140.0, 25.0, 5.0, 15.0, 1),
    "pressure": (1_013.0, 4.0, 0.6, 1.5, 2),
    "vibration": (14.0, 3.0, 0.5, 1.2, 3),
    "motion": (40.0, 8.0, 2.0, 6.0, 0),
    "light": (420.0, 60.0, 9.0, 27.0, 1),
    "co2": (620.0, 60.0, 12.0, 36.0, 0),
    "noise_level": (46.0, 4.0, 1.0, 3.0, 1),
}


def profile_for(metric: Metric) -> SignalProfile:
    """The profile of a metric: the known one if it stays in the declared bounds, else one made from the bounds."""
    low, high = metric.min_value, metric.max_value
    known = _KNOWN.get(metric.name)
    if known:
        base, spread, noise, cycle, decimals = known
        profile = SignalProfile(base, spread, noise, cycle, low, high, decimals)
        reach = spread + cycle + 20 * noise
        if (low is None or base - reach >= low) and (high is None or base + reach <= high):
            return profile
    if low is None and high is None:
        low, span = 0.0, 200.0
    elif low is None or high is None:
        edge = low if low is not None else high or 0.0
        span = max(abs(edge), 100.0)
        low = edge if low is not None else edge - span
    else:
        span = high - low
    noise = span / 200
    return SignalProfile(
        low + span / 2, span / 20, noise, 3 * noise, metric.min_value, metric.max_value, _decimals(noise)
    )


def _decimals(noise: float) -> int:
    """As many decimals as keep the noise visible: two digits of it."""
    decimals = 0
    while noise < 10 and decimals < 9:
        noise, decimals = noise * 10, decimals + 1
    return decimals


@dataclass(frozen=True)
class DeviceSignal:
    """One metric of one device; ``offset``, ``phase`` and ``drift_phase`` are what tells it from its neighbours."""

    profile: SignalProfile
    offset: float
    phase: float
    drift_phase: float

    @classmethod
    def draw(cls, profile: SignalProfile, rng: np.random.Generator) -> DeviceSignal:
        offset, phase, drift_phase = rng.uniform(-1, 1), rng.uniform(-0.05, 0.05), rng.uniform(0, 1)
        return cls(profile, offset * profile.spread, phase, drift_phase)

    def values(self, seconds: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values at epoch ``seconds``; ``noise``: standard normal numbers, one a time. Unrounded."""
        import numpy as np

        profile = self.profile
        # Warmest in the early afternoon; the drift comes and goes over five weeks.
        day = np.sin(2 * np.pi * (seconds / DAY_SECONDS - 0.33 + self.phase))
        drift = np.sin(2 * np.pi * (seconds / (35 * DAY_SECONDS) + self.drift_phase))
        error = np.clip(noise, -NOISE_LIMIT, NOISE_LIMIT) * profile.noise
        return profile.base + self.offset + profile.cycle * day + 2 * profile.noise * drift + error

    def spike(self, sigmas: NDArray[np.float64], cadence_seconds: float) -> NDArray[np.float64]:
        """How far readings must jump to stand out by so many (signed) sigma of the 100 readings before them."""
        import numpy as np

        span = SCORED_READINGS * cadence_seconds / DAY_SECONDS  # of a day
        profile = self.profile
        lag = min(2.0, np.pi * span) * profile.cycle
        spread = float(np.hypot(profile.noise, min(0.71, 2 * np.pi * span / np.sqrt(12)) * profile.cycle))
        return sigmas * spread + np.sign(sigmas) * lag

    def is_outside(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which values no such device can measure."""
        low, high = self._bounds
        return (values < low) | (values > high)

    def settle(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Round to what the device shows, never beyond the physical bounds."""
        import numpy as np

        return np.round(np.clip(values, *self._bounds), self.profile.decimals)

    def out_of_range(self, low_side: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Values beyond the bounds, on the low side where asked and possible; only for a metric with a bound."""
        import numpy as np

        low, high = self._bounds
        reach = 100 * self.profile.noise + 1
        return np.where((low_side & (low > -np.inf)) | (high == np.inf), low - reach, high + reach)

    @property
    def _bounds(self) -> tuple[float, float]:
        low, high = self.profile.low, self.profile.high
        return float("-inf") if low is None else low, float("inf") if high is None else high


def event_durations(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Durations in ms: log-normal around 158 ms, cut off at 50 and 500 (2.5 sigma to either side)."""
    import numpy as np

    middle, sigma = np.log(50 * 500) / 2, np.log(10) / 5
    logs = rng.normal(middle, sigma, count)
    while (outside := (logs < np.log(50)) | (logs > np.log(500))).any():
        logs[outside] = rng.normal(middle, sigma, int(outside.sum()))
    return np.clip(np.round(np.exp(logs), 1), 50.0, 500.0).astype(np.float64)
