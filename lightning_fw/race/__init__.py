"""Frank-Wolfe against back-propagation at equal numbers of gradient evaluations."""
