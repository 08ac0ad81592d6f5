"""What a report says about its own numbers, whatever they are."""

from __future__ import annotations

SCORES = """
A score is the mean return of a run's final greedy evaluation; mean ± standard deviation over seeds.
"""
CONTESTS = """
Difference: the first side less the other, with Welch's t interval. The verdict goes by Holm's p, which allows for the
number of tasks, so an interval that just leaves out 0 may not be enough. Detectable: the smallest true difference
that so many seeds with this spread would show in four tries of five. Filled marks: differences that may be claimed.
"""
CURVES = """
Mean return of the evaluations during training; the band reaches from the worst seed to the best. Seconds are those of
training alone, without evaluations.
"""
LEARNING = """
The same over the whole of training: each number is the mean height of a run's curve, over the steps that both sides'
curves cover. It is higher for who learns sooner, and tells two curves apart that end at the same score.
"""
AGGREGATES = """
Scores are normalised first: 0 is what random actions reach, 1 the environment's registered threshold, or the best
side's mean where none is registered. The interquartile mean (IQM) is the mean of the middle half of all runs; the
optimality gap is by how much runs miss 1 on average. Intervals are 95% stratified bootstrap intervals over seeds
(Agarwal et al. 2021); with few seeds they are rather too narrow.
"""
IMPROVEMENT = """
How probable it is that a run of one side, drawn blindly, beats a run of the other on the same task; 50% is a tie.
"""
PROFILES = """
Which part of the runs scores above each level: the higher curve is better, where the two do not cross.
"""
GOALS = """
The goal is the registered threshold. Reached: at the first evaluation during training at or above it. Steps and
seconds are medians over all seeds, those that never reached it counted as later than any; training alone, without
evaluations.
* None is registered: 90% of the way from random play to the best side's mean.
"""
COSTS = """
Medians over seeds; in the pictures a line reaches from the lowest seed to the highest. Training: without evaluations.
A whole run: from process start to end, evaluations too.
"""
NO_ENERGY = " The processor's energy could not be read."
METHOD = """
All sides train on the same environments for the same number of steps. Evaluations are played in environments of their
own, whose seeds are the same for all sides, with the most likely action, and count raw rewards. Every comparison is
over seeds: a run is one number, however many its episodes.
"""
HYPER = """
Settings "tuned": each side with the best that are published for it; "same": ours, translated into the other side's
arguments.
"""
IMPORTED = """
Imported curves come from elsewhere: how they were measured is not known here, and their score is the last point of
the curve.
"""
EXAMPLE = """\
env,algo,library,seed,step,return,time
CartPole-v1,ppo,mine,0,10000,312.5,4.2
CartPole-v1,ppo,mine,0,20000,487.0,8.1"""
