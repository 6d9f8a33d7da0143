"""The exhaustive model check of the lifecycle: the real `decide` functions and the real `apply`, in small adversarial worlds.

`symbols` turns real dataclasses into small integers and back, `actor` models one replica of the engine, `stores` and `twofold` the stores,
`world` the service, the targets and everything that can go wrong with them, `explorer` walks every state, `worlds` names what is walked,
`mutations` plants faults. It must not import anything of rotator but `rotator.domain` and what is pure in `rotator.stores`, and holds no
key material: keys are numbers here.
"""
