"""Hearts seen twice: sources that pair ECGs with echocardiograms and reports, and a simulated heart."""
