"""Search in the manner of Dyna: evaluate a few plans, learn, plan in simulation, evaluate what looks best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ...envs.problem import Callback, Problem
from ...errors import EspalierError
from ..searcher import BaseSearcher
from .codes import Walks, WalkTables
from .front import improvements
from .objective import Objective
from .planners import Planner
from .simulation import Pool, unique_rows
from .surrogate import AccuracySurrogate, FeatureMap, Scales, logit

__all__ = ["DynaRecipe", "DynaSearch"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DynaRecipe:
    start: int = 10
    batch: int = 5
    moves: int = 2
    front: int = 1
    kappa: float = 1.0
    margin: float = 0.01
    prior: bool = True
    exact_costs: bool = True
    screening: bool = True
    rejection: bool = True
    interactions: bool = True
    fantasies: bool = True


class DynaSearch(BaseSearcher):
    def __init__(self, planner: Planner, recipe: DynaRecipe | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        self._planner = planner
        self._recipe = recipe or DynaRecipe()

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        r=self._recipe
        tables = WalkTables(problem.bank)
        objective = Objective(problem, tables, rng)
        scales = Scales() if r.interactions else replace(Scales(), interactions=0.0)
        if not r.prior: scales=replace(scales,errors=0.,summaries=0.)
        surrogate = AccuracySurrogate(FeatureMap(tables, r.prior, rng), scales)
        self._planner.begin(tables, self._seed)
        known={}
        def evaluate(w):
            e=problem.evaluate_walk(w.tolist()); known[w.tobytes()]=(w,e)
        evaluate(np.zeros(len(tables.counts),np.int64))
        for w in self.first(problem,tables,rng): evaluate(w)
        while True:
            W=np.array([w for w,e in known.values()]); R=np.array([e.reward for w,e in known.values()])
            A=np.array([e.metrics.accuracy for w,e in known.values()])
            order=np.argsort(-R,kind='stable'); elites=W[order[:20]]
            if r.exact_costs: surrogate.fit(W,logit(A))
            else:
                m,s=R.mean(),R.std()+1e-9; surrogate.fit(W,(R-m)/s)
            kappa=r.kappa*rng.choice([.3,1,2])
            cap=A.max()+r.margin
            def value(walks,sur=surrogate,kappa=kappa):
                mu,sd=sur.predict(walks)
                if not r.exact_costs: return mu+kappa*sd
                acc=np.minimum(1/(1+np.exp(-mu-kappa*sd)),cap)
                return objective.rewards(walks,acc)
            pool=Pool(value,len(tables.counts))
            self._planner.plan(pool,elites,rng)
            best=R.max()
            moves=np.concatenate([self.moves(tables,e) for e in elites[:3]])
            walks,values=pool.ranked()
            def fresh(ws): return np.array([w.tobytes() not in known for w in ws],bool)
            def ok(ws):
                if not r.rejection: return np.ones(len(ws),bool)
                return objective.rewards(ws,np.full(len(ws),cap))>best
            chosen=[]
            def pick(cands):
                sur=surrogate
                if chosen and r.fantasies: sur=surrogate.imagining(np.array(chosen))
                cands=cands[[not any((c==x).all() for x in chosen) for c in cands]] if len(cands) else cands
                if len(cands): chosen.append(cands[np.argmax(value(cands,sur))])
            top=walks[:400]; top=top[fresh(top)]; top=top[ok(top)][:150]
            mv=moves[fresh(moves)]; mv=mv[ok(mv)]
            for k in range(r.batch-r.front):
                pick(mv if k<r.moves else top)
            self.stats=(len(top),len(mv))
            nf=r.batch-len(chosen) if r.front else 0
            if nf and r.exact_costs:
                fr=tables.canonical(np.concatenate([self.front_children(tables,objective,W,A,rng),walks[:200]]))
                fr=unique_rows(fr); fr=fr[fresh(fr)]
                for _ in range(nf):
                    sur=surrogate.imagining(np.array(chosen)) if chosen else surrogate
                    c=fr[[not any((c==x).all() for x in chosen) for c in fr]]
                    if not len(c): break
                    mu,sd=sur.predict(c); acc=np.minimum(1/(1+np.exp(-mu-kappa*sd*.5)),cap)
                    cc=objective.costs(c); k=rng.integers(cc.shape[1])
                    gains=improvements(A,objective.costs(W)[:,k],acc,cc[:,k])
                    chosen.append(c[np.argmax(gains)])
            if not chosen:
                w=tables.random(200,rng); w=w[fresh(w)]
                if not len(w): return
                chosen.append(w[0])
            for w in chosen: evaluate(w)

    def first(self,problem,tables,rng):
        n=self._recipe.start-1
        w=tables.random(20*self._recipe.start,rng)
        if self._recipe.prior:
            keep=rng.random((len(w),1))<rng.random(w.shape)
            w=tables.canonical(np.where(keep,w,0))
            w=w[np.argsort(tables.errors(w).sum(1),kind='stable')]
            w=unique_rows(w[(w>0).any(1)])
            return w[np.linspace(0,len(w)-1,n).round().astype(int)]
        return w[:n]

    def moves(self,tables,walk):
        out=[]
        for p in tables.open_positions:
            for c in range(tables.counts[p]):
                if c!=walk[p]:
                    w=walk.copy(); w[p]=c; out.append(w)
        return unique_rows(tables.canonical(np.array(out)))

    def front_children(self,tables,objective,W,A,rng):
        from .planners import neighbours
        C=objective.costs(W)
        keep=[]
        for k in range(C.shape[1]):
            keep+= [i for i in range(len(W)) if not ((A>=A[i])&(C[:,k]<=C[i,k])&((A>A[i])|(C[:,k]<C[i,k]))).any()]
        par=W[sorted(set(keep))]
        a,b=par[rng.integers(len(par),size=(2,400))]
        mix=np.where((rng.random((400,1))<.5)&(rng.random(a.shape)<.5),b,a)
        return neighbours(tables,mix,rng)
