"""Many pictures: a manifest in, edited pictures and one table out; stopped at any moment, it goes on where it was.

Read in this order: `jobs` (what a job is and what names it), `manifest`, `places`, `planning` (jobs minus what is
done), `work`, `dispatch` (the one loop), `local` and `on_ray` (where workers live), `results`, `run`.
"""
